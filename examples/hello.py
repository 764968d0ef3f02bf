"""A character RNN learns "hello": the losses and the sample of the script that fastrnn began as."""

import numpy as np

import fastrnn

rng = np.random.RandomState(42)
model = fastrnn.train("hello", preset="scratch", rng=rng, progress=False)
for record in model.history:
    print(f"epoch {record['step']}, loss = {record['loss']:.4f}")

print("\nGenerated text:")
print(model.sample(5, prime="h", rng=rng))
