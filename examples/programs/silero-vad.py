import wave
import numpy as np
import torch
from silero_vad import get_speech_timestamps, load_silero_vad

with wave.open("speech.wav") as file:
    audio = np.frombuffer(file.readframes(file.getnframes()), np.int16) / np.float32(32768)
model, audio = load_silero_vad(onnx=True), torch.from_numpy(audio)
print(get_speech_timestamps(audio, model), model.audio_forward(audio, 16000).tolist())
