"""Search with Ray Tune's own Tuner: the best learning rate and method for the embedded sample.

    python examples/own_tuner.py [STEPS]

Trials train a classifier on a long-tailed cut and are compared by macro F1 on validation images, which are
set aside before the cut. The best settings are then tested once.
"""

import sys
import tempfile

import ray
from ray import tune

from lt_rebalance import CNNTrainable  # before ray.init: see lt_rebalance/__init__.py


def main(steps: int) -> None:
    """Try four settings, two at a time, and test the best."""
    space = {
        "dataset": "fashion_mnist_mini",
        "c": "1/2",
        "method": tune.choice(["oversample", "balanced_softmax", "ldam:max_margin=0.3"]),
        "learning_rate": tune.loguniform(1e-4, 1e-2),
        "batch_size": 32,
        "steps": steps,
        "seed": 0,
    }
    with tempfile.TemporaryDirectory() as directory:
        tuner = tune.Tuner(
            tune.with_resources(CNNTrainable, {"cpu": 1}),
            param_space=space,
            tune_config=tune.TuneConfig(
                metric="validation_macro_f1", mode="max", num_samples=4, reuse_actors=True
            ),
            run_config=tune.RunConfig(
                storage_path=directory,
                verbose=0,
                checkpoint_config=tune.CheckpointConfig(checkpoint_frequency=1, checkpoint_at_end=True),
            ),
        )
        best = tuner.fit().get_best_result()
        config = best.config | {"measured_on": "test"}
        tested = tune.Tuner(
            tune.with_resources(CNNTrainable, {"cpu": 1}),
            param_space=config,
            run_config=tune.RunConfig(storage_path=directory, verbose=0),
        ).fit()[0]
    print(f"best of 4: {config['method']} at a learning rate of {config['learning_rate']:.2g}")
    print(f"macro F1 on validation images {best.metrics['validation_macro_f1']:.3f}, ", end="")
    print(f"on test images {tested.metrics['test_macro_f1']:.3f}")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False)
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200)
