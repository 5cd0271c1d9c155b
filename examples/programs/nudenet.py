from nudenet import NudeDetector

print(NudeDetector().detect("photo.jpg"))
