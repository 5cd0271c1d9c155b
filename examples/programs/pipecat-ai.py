import asyncio
import wave
from pipecat.audio.turn.smart_turn.local_smart_turn_v3 import LocalSmartTurnAnalyzerV3
from pipecat.audio.vad.silero import SileroVADAnalyzer

with wave.open("speech.wav") as file:
    pcm = file.readframes(file.getnframes())
vad, turn = SileroVADAnalyzer(sample_rate=16000), LocalSmartTurnAnalyzerV3(sample_rate=16000)
vad.set_sample_rate(16000)
print([vad.voice_confidence(pcm[at : at + 1024]).item() for at in range(0, len(pcm) - 1024, 1024)])
turn.append_audio(pcm, is_speech=True)
state, metrics = asyncio.run(turn.analyze_end_of_turn())
print(state, metrics.probability)
