"""Frames for DTLN's first network, from made-up speech in noise: no recording is needed.

    python dtln_frames.py dtln_1.onnx frames.npz [--frames 2000] [--seed 0]

Each clip is a voice of harmonics with a moving pitch and syllables, plus white noise. The network runs over it frame
by frame, as in use, and every frame is kept with the state that the network had before it.
"""

import argparse

import numpy as np
import onnxruntime

RATE, FRAME, SHIFT = 16000, 512, 128


def clip(random, seconds=2.0):
    t = np.arange(int(RATE * seconds)) / RATE
    pitch = random.uniform(90, 250) * (1 + 0.1 * np.sin(2 * np.pi * random.uniform(1, 4) * t))
    phase = 2 * np.pi * np.cumsum(pitch) / RATE
    voice = sum(np.sin(k * phase) * random.uniform(0.2, 1) / k for k in range(1, 25))
    syllables = np.clip(np.sin(2 * np.pi * random.uniform(2, 5) * t + random.uniform(0, 6)), 0, 1)
    voice *= syllables * 0.1
    return (voice + random.normal(0, random.uniform(0.005, 0.03), len(t))).astype(np.float32)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("out")
    parser.add_argument("--frames", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    random = np.random.default_rng(args.seed)
    session = onnxruntime.InferenceSession(args.model, providers=["CPUExecutionProvider"])
    magnitudes, states = [], []
    while len(magnitudes) < args.frames:
        sound, state = clip(random), np.zeros((1, 2, 128, 2), np.float32)
        for start in range(0, len(sound) - FRAME, SHIFT):
            magnitude = np.abs(np.fft.rfft(sound[start : start + FRAME])).astype(np.float32).reshape(1, 1, -1)
            magnitudes.append(magnitude[0])
            states.append(state[0])
            _, state = session.run(None, {"input_2": magnitude, "input_3": state})
    pick = random.permutation(len(magnitudes))[: args.frames]
    np.savez_compressed(args.out, input_2=np.stack(magnitudes)[pick], input_3=np.stack(states)[pick])


if __name__ == "__main__":
    main()
