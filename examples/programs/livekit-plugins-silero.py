import asyncio
import wave
from livekit import rtc
from livekit.plugins import silero

async def listen(pcm):
    stream = silero.VAD.load().stream()
    stream.push_frame(rtc.AudioFrame(pcm, 16000, 1, len(pcm) // 2))
    stream.end_input()
    async for event in stream:
        print(event.type, event.samples_index, event.probability)

with wave.open("speech.wav") as file:
    asyncio.run(listen(file.readframes(file.getnframes())))
