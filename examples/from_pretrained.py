"""Train briefly, save a folder, and predict from that folder alone."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from pase_msa import Batch, PaSE, PaSERegressor

rng = np.random.default_rng(0)
mood = rng.uniform(-3, 3, 120).astype(np.float32)
X = {
    "audio": mood[:, None, None] + rng.standard_normal((120, 6, 2)),  # six frames
    "vision": mood[:, None] + rng.standard_normal((120, 3)),  # one vector
}
trained = PaSERegressor(epochs=10, learning_rate=5e-3).fit(X, mood)

with tempfile.TemporaryDirectory() as folder:
    trained.model_.save_pretrained(folder)
    print("in the folder:", ", ".join(sorted(path.name for path in Path(folder).iterdir())))
    model = PaSE.from_pretrained(folder)

print(f"it predicts a {model.task.kind} over {', '.join(model.task.modalities)}, classes {model.task.classes}")

# A batch holds padded sequences with their lengths; the second utterance has no vision.
batch = Batch(
    features={
        "audio": torch.tensor(X["audio"][:3], dtype=torch.float32),
        "vision": torch.tensor(X["vision"][:3, None], dtype=torch.float32),
    },
    lengths={"audio": torch.tensor([6, 6, 6]), "vision": torch.tensor([1, 0, 1])},
    present={"audio": torch.tensor([True, True, True]), "vision": torch.tensor([True, False, True])},
)
with torch.inference_mode():
    outputs = model(batch)
print("scores:", [round(score, 2) for score in outputs.score.tolist()], "truth:", mood[:3].round(2).tolist())

alike = np.allclose(outputs.score[[0, 2]], trained.predict(X)[[0, 2]], atol=1e-5)
print("the saved model predicts what the trained one did:", alike)
