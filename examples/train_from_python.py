"""Train two algorithms from Python, compare them, and plot their learning curves: about a minute on one core."""

import matplotlib.pyplot as plt
import seaborn as sns

import bench

TASK = "mamujoco/HalfCheetah-2x3"


def train_all(folder, algorithms=("mappo", "happo"), seeds=(0, 1), steps=60_000, **settings):
    """Trials that are done are not run again, so this can be called once more with another algorithm or seed."""
    for algorithm in algorithms:
        for seed in seeds:
            bench.train(algorithm, TASK, seed=seed, steps=steps, results=folder, **settings)
    return bench.read(folder)


def compare(results):
    """The mean return of the last policies over seeds, which are what counts, and how far the seeds lie apart."""
    final = results.records.query("kind == 'final'")
    by_seed = final.groupby(["algorithm", "seed"])["episode_return"].mean()
    return by_seed.groupby("algorithm").agg(["mean", "min", "max"])


def plot(results, path):
    """Learning curves: the mean over seeds, and the range."""
    grid = results.records.query("kind == 'grid'")
    by_seed = grid.groupby(["algorithm", "seed", "step"], as_index=False)["episode_return"].mean()
    axes = sns.lineplot(by_seed, x="step", y="episode_return", hue="algorithm", errorbar=("pi", 100))
    axes.set(title=TASK, xlabel="environment steps", ylabel="return")
    plt.savefig(path, bbox_inches="tight")
    plt.close()


if __name__ == "__main__":
    results = train_all("results/from_python", envs=10, rollout_length=100)
    print(compare(results))
    plot(results, "results/from_python/learning_curves.png")
    best = results.records.query("kind == 'absolute'").groupby(["algorithm", "seed"])["episode_return"].mean().idxmax()
    folder = results.trials.set_index(["algorithm", "seed"]).loc[best, "folder"]
    print("five more episodes of the best team:", bench.load_team(folder).evaluate(episodes=5))
