"""Scikit-learn style: fit, score, and what each modality contributed. The data are generated."""

import numpy as np

from pase_msa import PaSERegressor

rng = np.random.default_rng(0)
N = 240
mood = rng.uniform(-3, 3, N)
video = np.arange(N) // 8  # eight utterances per video, which must not be split between training and test

# text: one vector per utterance; audio: frames of varying number, missing now and then; vision: weak
X = {
    "text": mood[:, None] * [1.0, -0.5, 0.2] + 0.8 * rng.standard_normal((N, 3)),
    "audio": [
        None if i % 9 == 0 else mood[i] * np.array([0.6, 0.3]) + rng.standard_normal((rng.integers(2, 6), 2))
        for i in range(N)
    ],
    "vision": 0.2 * mood[:, None] + rng.standard_normal((N, 4)),
}


def rows(index):
    return {name: [values[i] for i in index] for name, values in X.items()}


train, test = np.flatnonzero(video < 22), np.flatnonzero(video >= 22)
model = PaSERegressor(epochs=15, learning_rate=5e-3, label_range=(-3, 3), random_state=0)
model.fit(rows(train), mood[train], groups=video[train])
print(f"R2 on new videos: {model.score(rows(test), mood[test]):.2f} after {model.n_iter_} epochs")

scores, sure, shares = (
    model.predict(rows(test)),
    model.confidence(rows(test)),
    model.contributions(rows(test)),
)
print("utterance  truth  score  confidence  contributions")
for i in range(4):
    parts = "  ".join(f"{name} {values[i]:+.2f}" for name, values in shares.items())
    print(f"{test[i]:9d}  {mood[test[i]]:+.2f}  {scores[i]:+.2f}  {sure[i]:10.2f}  {parts}")

without_text = {name: values for name, values in rows(test).items() if name != "text"}
print(f"R2 where there is no text: {model.score(without_text, mood[test]):.2f}")
