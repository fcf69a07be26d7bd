"""PyTorch's DataLoader, one worker process per core, consumed as uint8 tensors. Ways: exact, draft."""

from __future__ import generator_stop

import os
from typing import Any, Iterator

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from benchmarks.contenders.protocol import BATCH, arguments, long_epoch, serve

PREFETCH = 4


class Pictures(Dataset):
    def __init__(self, folder: str, size: int, draft: bool) -> None:
        self.paths, self.labels = long_epoch(folder)
        self.size, self.draft = (size, size), draft

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Any:
        image = Image.open(self.paths[index])
        if self.draft:
            image.draft("RGB", self.size)
        return torch.from_numpy(np.array(image.resize(self.size).convert("RGB"))), self.labels[index]


def batches(folder: str, size: int, draft: bool) -> Iterator[int]:
    loader = DataLoader(Pictures(folder, size, draft), BATCH, shuffle=True, num_workers=os.cpu_count() or 1,
                        prefetch_factor=PREFETCH, persistent_workers=True)
    while True:
        for images, _ in loader:
            yield len(images)


if __name__ == "__main__":
    way, folder, size = arguments()
    serve(batches(folder, size, way == "draft"), (os.cpu_count() or 1) * (PREFETCH + 1))
