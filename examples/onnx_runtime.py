"""Train briefly, export one ONNX file, and predict from it with ONNX Runtime and NumPy alone."""

import tempfile
from pathlib import Path

import numpy as np
import onnxruntime

from pase_msa import PaSERegressor
from pase_msa.serve.export import export_onnx

rng = np.random.default_rng(0)
mood = rng.uniform(-3, 3, 120).astype(np.float32)
X = {
    "audio": mood[:, None, None] + rng.standard_normal((120, 6, 2)),  # six frames
    "vision": mood[:, None] + rng.standard_normal((120, 3)),  # one vector
}
trained = PaSERegressor(epochs=5, learning_rate=5e-3).fit(X, mood)

with tempfile.TemporaryDirectory() as folder:
    file = export_onnx(trained.model_, Path(folder) / "model.onnx")
    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])

# From here on there is no PyTorch. Sequences are padded; a length of 0 is an absent modality.
names = [output.name for output in session.get_outputs()]
outputs = session.run(
    names,
    {
        "audio.features": X["audio"][:3].astype(np.float32),
        "audio.length": np.array([6, 6, 6]),
        "vision.features": X["vision"][:3, None].astype(np.float32),
        "vision.length": np.array([1, 0, 1]),
    },
)
results = dict(zip(names, outputs, strict=True))
print("scores:", results["score"].round(2).tolist(), "confidence:", results["confidence"].round(2).tolist())

alike = np.allclose(results["score"][[0, 2]], trained.predict(X)[[0, 2]], atol=1e-4)
print("ONNX Runtime predicts what the trained model does:", alike)
