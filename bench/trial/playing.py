"""Trained teams that play episodes one by one, in a picture if it is wanted: several teams side by side."""

from __future__ import annotations

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from bench.cli.installation import installing
from bench.envs import rendering
from bench.envs.gl import NoPictures
from bench.store import files
from bench.tasks import registry
from bench.tasks.registry import Task
from bench.trial.collect import Episodes, moments, play
from bench.trial.setup import one_thread, seed_noise
from bench.trial.trained import TrainedTeam

ONE, OF_SEVERAL = (480, 360), (320, 240)
"""Width and height in pixels of what a camera sees, of one team and of each of several."""
STRIP = 28
"""Pixels above it, with the label and the return so far."""
LAST_SECONDS = 1.0
"""For which the end of an episode is shown."""
INK, PAPER = "white", "#1f2329"


class Film:
    """A video that grows picture by picture."""

    def __init__(self, path: Path):
        self._path = path
        self._writer: Generator[None, Any, None] | None = None

    def add(self, image: Image.Image, fps: float, times: int = 1) -> None:
        """Append a picture; size and pictures per second are those of the first."""
        if self._writer is None:
            import imageio_ffmpeg

            self._writer = imageio_ffmpeg.write_frames(
                str(self._path),
                image.size,
                fps=fps,
                macro_block_size=2,
                ffmpeg_log_level="error",
                output_params=["-movflags", "+faststart"],  # so that a browser can begin before it has all
            )
            self._writer.send(None)
        for _ in range(times):
            self._writer.send(np.asarray(image).tobytes())

    def close(self) -> None:
        """Write the last pictures."""
        if self._writer is not None:
            self._writer.close()


@contextmanager
def film(path: Path, teams: Sequence[TrainedTeam]) -> Iterator[Film]:
    """A film of teams that is at `path` when all of it is made, and not before.

    Raises NoPictures before anything is played where no video can be made, or none of what a team plays.
    """
    try:
        import imageio_ffmpeg

        imageio_ffmpeg.get_ffmpeg_exe()
    except ImportError:
        raise NoPictures(f"a video needs the extra video: {installing('video')}") from None
    except RuntimeError as error:  # of a package without the program
        raise NoPictures(f"a video needs ffmpeg: {error}") from None
    for task in {team.task.label: team.task for team in teams}.values():
        _refuse_without_pictures(task)
    with TemporaryDirectory() as folder:
        part = Path(folder) / "part.mp4"
        with closing(Film(part)) as made:
            yield made
        files.write_bytes(path, part.read_bytes())


def _refuse_without_pictures(task: Task) -> None:
    with (
        closing(registry.make(task, [np.random.SeedSequence(0)], auto_reset=False, drawn=True)) as batch,
        closing(rendering.camera(batch, ONE)) as camera,
    ):
        camera.picture()


def episodes(
    teams: Sequence[TrainedTeam],
    seeds: Sequence[np.random.SeedSequence],
    *,
    sampled: bool = False,
    into: Film | None = None,
) -> Iterator[list[Episodes]]:
    """For each seed, how the episode of each team ended; all teams begin it in the same state.

    An episode is played alone, so its numbers do not depend on others nor on being filmed. `sampled`: actions are drawn
    from the policies, with noise of the seed, instead of their modes.
    """
    with one_thread():
        for number, seed in enumerate(seeds):
            if into is None:
                yield [_played(team, seed, sampled) for team in teams]
            else:
                yield _filmed(teams, seed, sampled, into, f"episode {number}" if len(seeds) > 1 else "")


def _played(team: TrainedTeam, seed: np.random.SeedSequence, sampled: bool) -> Episodes:
    seed_noise(team.learner, int(seed.generate_state(1)[0]))
    with closing(registry.make(team.task, [seed], auto_reset=False)) as batch:
        return play(team.learner, batch, explore=sampled)


def _filmed(
    teams: Sequence[TrainedTeam], seed: np.random.SeedSequence, sampled: bool, into: Film, number: str
) -> list[Episodes]:
    size = ONE if len(teams) == 1 else OF_SEVERAL
    with ExitStack() as opened:
        scenes = [opened.enter_context(closing(Scene(team, seed, sampled, size, number))) for team in teams]
        fps = scenes[0].fps
        into.add(side_by_side([scene.image for scene in scenes]), fps)
        while not all(scene.over for scene in scenes):
            for scene in scenes:
                scene.advance()
            into.add(side_by_side([scene.image for scene in scenes]), fps)
        into.add(side_by_side([scene.image for scene in scenes]), fps, times=round(LAST_SECONDS * fps))
        return [scene.so_far for scene in scenes]


class Scene:
    """One team that plays one episode before a camera."""

    def __init__(
        self, team: TrainedTeam, seed: np.random.SeedSequence, sampled: bool, size: tuple[int, int], number: str
    ):
        self._label = f"{team.algorithm} {number}".strip()
        seed_noise(team.learner, int(seed.generate_state(1)[0]))
        with ExitStack() as opened:
            batch = opened.enter_context(closing(registry.make(team.task, [seed], auto_reset=False, drawn=True)))
            self._camera = opened.enter_context(closing(rendering.camera(batch, size)))
            self._skipped = rendering.steps_per_picture(self._camera)
            self._moments = moments(team.learner, batch, explore=sampled)
            self.so_far = next(self._moments)
            self.over = False
            self.image = self._labelled()
            self._opened = opened.pop_all()

    @property
    def fps(self) -> float:
        """Pictures per second of the environment's time."""
        return self._camera.steps_per_second / self._skipped

    def advance(self) -> None:
        """Go on to the next picture, or to the end of the episode, whose picture stays."""
        if self.over:
            return
        for _ in range(self._skipped):
            if next(self._moments, None) is None:
                self.over = True
                break
        self.image = self._labelled()

    def _labelled(self) -> Image.Image:
        """The picture below a strip with the label, the step and the return so far."""
        picture, so_far = self._camera.picture(), self.so_far
        return labelled(picture, self._label, f"step {so_far.lengths[0]}   return {so_far.returns[0]:,.1f}")

    def close(self) -> None:
        """Close camera and environment."""
        self._opened.close()


def labelled(picture: Image.Image, left: str, right: str) -> Image.Image:
    """A picture below a strip with two texts, the left one cut where it would run into the right one."""
    whole = Image.new("RGB", (picture.width, picture.height + STRIP), PAPER)
    whole.paste(picture, (0, STRIP))
    draw, font = ImageDraw.Draw(whole), ImageFont.load_default(size=STRIP // 2)
    edge = picture.width - 8 - draw.textlength(right, font)
    draw.text((edge, STRIP / 2), right, INK, font, anchor="lm")
    while left and 8 + draw.textlength(left, font) > edge - 8:
        left = left[:-1]
    draw.text((8, STRIP / 2), left, INK, font, anchor="lm")
    return whole


def side_by_side(images: Sequence[Image.Image]) -> Image.Image:
    """Images of one size in rows, as many rows as columns or one fewer."""
    columns = math.ceil(math.sqrt(len(images)))
    rows = math.ceil(len(images) / columns)
    width, height = images[0].size
    whole = Image.new("RGB", (columns * width, rows * height), PAPER)
    for k, image in enumerate(images):
        whole.paste(image, (k % columns * width, k // columns * height))
    return whole
