"""Read the results of a sweep in pandas.

    python examples/read_store.py [STORE]

Prints each cell's accuracy over seeds, the differences from method none seed by seed, the recall of each
class, and the last rounds of the learning curves. `analysis.collect` gives one row per run. `read_results`
gives the other frames as well: classes, rounds, generators.
"""

import sys

import analysis


def main(store: str) -> None:
    """Print four views of the same runs."""
    results = analysis.read_results(store)
    compared = ["protocol", "data", "method"]

    complete = results.runs[results.runs["state"] == "complete"]
    accuracy = complete.groupby(compared)["accuracy"].agg(["count", "mean", "std"])
    print("Accuracy by cell\n", accuracy.round(3), sep="")

    # Runs with one seed saw the same images, so methods are compared within each seed.
    by_seed = complete.pivot_table(index=["protocol", "data", "seed"], columns="method", values="accuracy")
    if "none" in by_seed:
        print("\nDifference from none, seed by seed\n", by_seed.sub(by_seed["none"], axis=0).round(3), sep="")

    recall = results.classes.pivot_table(index="class_name", columns="method", values="recall")
    print("\nMean recall of each class\n", recall.round(2), sep="")

    curves = results.rounds.pivot_table(index="step", columns="method", values="test_macro_f1")
    print("\nMean macro F1 after each round\n", curves.tail(5).round(3), sep="")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "results")
