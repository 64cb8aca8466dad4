"""The plain pipeline as a baseline for speed: the paper's training, written as in tutorials.

A DataLoader with 4 workers and transforms image by image, float32, networks and losses as in section 3 of the
paper, one optimizer step after the other; after each epoch the test set goes through a DataLoader as well. It
shares only the data with the package. Shape suffixes: N images, B batch, C H W image.
"""

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from PIL import Image
from sklearn.metrics import f1_score
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

NUM_WORKERS = 4
CLASSIFIER_BATCH = 100
CGAN_BATCH = 256


class ImageDataset(Dataset[tuple[Tensor, int]]):
    """Convert bytes to an image, to a tensor, to [-1, 1], one at a time."""

    def __init__(self, images_NHW: NDArray[np.uint8], labels_N: NDArray[np.int64]) -> None:
        self._images_NHW = images_NHW
        self._labels_N = labels_N
        self._transform = torchvision.transforms.Compose(
            [torchvision.transforms.ToTensor(), torchvision.transforms.Normalize((0.5,), (0.5,))]
        )

    def __len__(self) -> int:
        return len(self._labels_N)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self._images_NHW[index])
        return self._transform(image), int(self._labels_N[index])


def make_loader(
    images_NHW: NDArray[np.uint8], labels_N: NDArray[np.int64], batch_size: int, *, shuffle: bool
) -> DataLoader[tuple[Tensor, int]]:
    """Return the loader of a set."""
    dataset = ImageDataset(images_NHW, labels_N)
    return DataLoader(dataset, batch_size, shuffle=shuffle, num_workers=NUM_WORKERS)


def build_classifier() -> nn.Module:
    """Return the paper's CNN, softmax included."""
    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.ReLU(), nn.BatchNorm2d(32)),
        *(nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(32, 48, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(48, 64, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(3136, 128), nn.ReLU(), nn.Linear(128, 10), nn.Softmax(dim=1)),
    )


class PlainClassifier:
    """One run of the paper's CNN."""

    def __init__(self, train: DataLoader[Any], test: DataLoader[Any]) -> None:
        self.network = build_classifier()
        self.optimizer = torch.optim.Adam(self.network.parameters(), lr=5e-4)
        self.train_loader = train
        self.test_loader = test
        self.criterion = nn.CrossEntropyLoss()

    def run_epoch(self) -> None:
        """Train for one epoch."""
        for images_BCHW, labels_B in self.train_loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.network(images_BCHW), labels_B)
            loss.backward()
            self.optimizer.step()

    def test(self) -> tuple[float, float, float]:
        """Return loss, accuracy and weighted F1 on the test set."""
        losses, predictions, truths = [], [], []
        with torch.no_grad():
            for images_BCHW, labels_B in self.test_loader:
                outputs = self.network(images_BCHW)
                losses.append(self.criterion(outputs, labels_B).item())
                predictions += outputs.argmax(dim=1).tolist()
                truths += labels_B.tolist()
        accuracy = float(np.mean(np.array(predictions) == np.array(truths)))
        return float(np.mean(losses)), accuracy, float(f1_score(truths, predictions, average="weighted"))


class PlainGenerator(nn.Module):
    """The paper's mlp_cgan_leaky."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 10)
        widths = [110, 256, 512, 1024]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, nn.Linear(1024, 784), nn.Tanh())

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        images: Tensor = self.layers(torch.cat([noise, self.embedding(labels)], dim=1))
        return images.view(-1, 1, 28, 28)


class PlainDiscriminator(nn.Module):
    """The paper's discriminator, sigmoid included."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(10, 10)
        widths = [794, 1024, 512, 256]
        layers: list[nn.Module] = []
        for inputs, outputs in itertools.pairwise(widths):
            layers += [nn.Linear(inputs, outputs), nn.LeakyReLU(0.2), nn.Dropout(0.3)]
        self.layers = nn.Sequential(*layers, nn.Linear(256, 1), nn.Sigmoid())

    def forward(self, images: Tensor, labels: Tensor) -> Tensor:
        probabilities: Tensor = self.layers(torch.cat([images.flatten(1), self.embedding(labels)], dim=1))
        return probabilities.squeeze(1)


class PlainCGAN:
    """One run of the paper's CGAN."""

    def __init__(self, train: DataLoader[Any]) -> None:
        self.generator, self.discriminator = PlainGenerator(), PlainDiscriminator()
        self.optimizers = [
            torch.optim.Adam(network.parameters(), lr=2e-4)
            for network in (self.discriminator, self.generator)
        ]
        self.loader = train
        self.criterion = nn.BCELoss()

    def steps(self) -> Iterator[tuple[float, float]]:
        """Train for one epoch, and yield both losses after each step."""
        discriminator_optimizer, generator_optimizer = self.optimizers
        for images_BCHW, labels_B in self.loader:
            size = len(labels_B)
            ones, zeros = torch.ones(size), torch.zeros(size)
            noise, fake_labels = torch.randn(size, 100), torch.randint(0, 10, (size,))
            discriminator_optimizer.zero_grad()
            real_loss = self.criterion(self.discriminator(images_BCHW, labels_B), ones)
            fake_images = self.generator(noise, fake_labels)
            fake_loss = self.criterion(self.discriminator(fake_images.detach(), fake_labels), zeros)
            discriminator_loss = (real_loss + fake_loss) / 2
            discriminator_loss.backward()
            discriminator_optimizer.step()
            generator_optimizer.zero_grad()
            generator_loss = self.criterion(
                self.discriminator(self.generator(noise, fake_labels), fake_labels), ones
            )
            generator_loss.backward()
            generator_optimizer.step()
            yield discriminator_loss.item(), generator_loss.item()
