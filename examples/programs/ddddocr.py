from pathlib import Path
from ddddocr import DdddOcr

image = Path("text.png").read_bytes()
print(DdddOcr(show_ad=False).classification(image))
print(DdddOcr(det=True, show_ad=False).detection(image))
