from magika import Magika

for path in ("app.py", "speech.wav"):
    answer = Magika().identify_path(path)
    print(answer.output.label, answer.score)
