"""Small graphs of stages for tests, with chains of any number of links."""

import dataclasses
import random
from dataclasses import dataclass, field
from typing import ClassVar

from lt_rebalance.ground.plain import LATER
from lt_rebalance.studies.protocols import get_protocol, make_cell
from lt_rebalance.studies.stage import AnyStage, ClassifierStage
from lt_rebalance.training.configs import Execution

EXECUTION = Execution(device="cpu", precision="float32", num_threads=1, torch_version="2.15.0")


@dataclass(frozen=True, kw_only=True)
class LaterStage(ClassifierStage):
    """A training that builds on another one, which may build on one more, and on the same generator."""

    kind: ClassVar[str] = "later"
    first: ClassifierStage | None = field(default=None, metadata=LATER)

    @property
    def upstreams(self) -> tuple[AnyStage, ...]:
        return (*super().upstreams, *([] if self.first is None else [self.first]))

    def with_seed(self, seed: int) -> "LaterStage":
        first = self.first and self.first.with_seed(seed)
        return dataclasses.replace(super().with_seed(seed), first=first)  # type: ignore[return-value]


def make_stage(seed: int, *, batch_size: int = 100, has_generator: bool = False) -> ClassifierStage:
    """Return a classifier stage, on a generator stage where asked to."""
    method, generator = ("cgan", "small_mlp_cgan_leaky") if has_generator else ("none", None)
    cell = make_cell(
        get_protocol("sound"), dataset="fashion_mnist_mini", c="1/2", method=method, generator=generator
    )
    stage = cell.stage(seed, EXECUTION)
    return dataclasses.replace(stage, classifier=dataclasses.replace(stage.classifier, batch_size=batch_size))


def make_later(first: ClassifierStage, batch_size: int) -> LaterStage:
    """Return a stage that builds on another, with the same seed."""
    values = {each.name: getattr(first, each.name) for each in dataclasses.fields(ClassifierStage)}
    values["classifier"] = dataclasses.replace(first.classifier, batch_size=batch_size)
    return LaterStage(**values, first=first)


def draw_stages(rng: random.Random) -> list[AnyStage]:
    """Return the stages of chains of up to four links, of several seeds, some done, in any order."""
    stages: dict[str, AnyStage] = {}
    for seed in range(rng.randrange(1, 5)):
        for _ in range(rng.randrange(1, 4)):
            stage: ClassifierStage = make_stage(
                seed, batch_size=rng.choice((50, 100)), has_generator=rng.random() < 0.6
            )
            chain: list[AnyStage] = [] if stage.generator_stage is None else [stage.generator_stage]
            chain.append(stage)
            for _ in range(rng.randrange(3)):
                stage = make_later(stage, rng.choice((50, 100)))
                chain.append(stage)
            for each in chain[rng.choice((0, 0, 0, 1)) :]:  # else the first of them is done
                stages[each.key] = each
    drawn = list(stages.values())
    rng.shuffle(drawn)
    return drawn


def list_behind(stage: AnyStage, stages: list[AnyStage]) -> list[AnyStage]:
    """Return the stages that build on a stage, by one link."""
    return [other for other in stages if stage.key in (each.key for each in other.upstreams)]
