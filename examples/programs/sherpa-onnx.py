import wave
import numpy as np
import sherpa_onnx as sherpa

with wave.open("speech.wav") as file:
    audio = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
silero = sherpa.SileroVadModelConfig(model="models/silero_vad.onnx")
vad = sherpa.VoiceActivityDetector(sherpa.VadModelConfig(silero_vad=silero))
for at in range(0, len(audio), 512):
    vad.accept_waveform(audio[at : at + 512])
vad.flush()
print(vad.front.start, len(vad.front.samples))
gtcrn = sherpa.OfflineSpeechDenoiserGtcrnModelConfig(model="models/gtcrn.onnx")
model = sherpa.OfflineSpeechDenoiserModelConfig(gtcrn=gtcrn)
denoiser = sherpa.OfflineSpeechDenoiser(sherpa.OfflineSpeechDenoiserConfig(model=model))
print(denoiser.run(audio, 16000).samples)
