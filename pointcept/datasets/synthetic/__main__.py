"""Command line: ``python -m pointcept.datasets.synthetic --root data/synthetic_rooms --rooms 24 4``."""

import argparse
import logging
import sys
from pathlib import Path

from pointcept.datasets.synthetic.generate import ensure_synthetic_rooms, scene_name
from pointcept.datasets.synthetic.preview import write_preview
from pointcept.datasets.synthetic.room import RoomSettings


def main(arguments: list[str] | None = None) -> int:
    """Make the rooms and a preview; returns the exit status."""
    defaults = RoomSettings()
    parser = argparse.ArgumentParser(
        prog="python -m pointcept.datasets.synthetic",
        description="Make furnished rooms as posed RGB-D frames and labelled clouds, in ScanNet's layout.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--root", type=Path, default=Path("data/synthetic_rooms"), help="folder of the data set")
    parser.add_argument("--rooms", type=int, nargs=2, default=(24, 4), metavar=("TRAIN", "VAL"), help="rooms per split")
    parser.add_argument("--seed", type=int, default=0, help="another seed gives other rooms")
    parser.add_argument(
        "--image-size", type=int, nargs=2, default=defaults.image_size, metavar=("HEIGHT", "WIDTH"), help="pixels"
    )
    parser.add_argument("--frames", type=int, default=defaults.num_frames, help="frames per room")
    parser.add_argument("--workers", type=int, default=None, help="processes; one per available core when left out")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        settings = RoomSettings(image_size=tuple(options.image_size), num_frames=options.frames)
        train, val = options.rooms
        root = ensure_synthetic_rooms(
            options.root, train, val, options.seed, settings=settings, num_workers=options.workers
        )
    except ValueError as error:
        parser.error(str(error))
    scenes = [scene_name("train", index) for index in range(train)] + [scene_name("val", index) for index in range(val)]
    preview = write_preview(root, scenes)
    logging.getLogger("pointcept").info("%d rooms in %s, preview in %s", len(scenes), root, preview)
    return 0


if __name__ == "__main__":
    sys.exit(main())
