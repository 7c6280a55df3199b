"""Names of the lazy module for type checkers; each equals its entry in `_NAMES`."""

from blocknerf.cameras import Cameras as Cameras
from blocknerf.capture.capture import Capture as Capture
from blocknerf.capture.capture_file import read_capture as read_capture
from blocknerf.capture.capture_file import write_capture as write_capture
from blocknerf.capture.frame import Frame as Frame
from blocknerf.capture.frame import Intrinsics as Intrinsics
from blocknerf.city.manifest import City as City
from blocknerf.city.renderer import CityRenderer as CityRenderer
from blocknerf.city.run import Run as Run
from blocknerf.city.run import load_run as load_run
from blocknerf.city.run_folder import RunFolder as RunFolder
from blocknerf.city.weighting import BlendInputs as BlendInputs
from blocknerf.errors import BlockNerfError as BlockNerfError
from blocknerf.fields.block_field import BlockField as BlockField
from blocknerf.fields.spec import FieldSpec as FieldSpec
from blocknerf.images import to_uint8 as to_uint8
from blocknerf.images import write_image as write_image
from blocknerf.partitioning.block import Block as Block
from blocknerf.training.config import TrainConfig as TrainConfig
from blocknerf.training.setup import make_config as make_config
from blocknerf.training.setup import make_trainer as make_trainer
from blocknerf.training.trainer import Trainer as Trainer
from blocknerf.trajectory.trajectory import Trajectory as Trajectory
from pipelines.align import align as align
from pipelines.evaluate import evaluate as evaluate
from pipelines.export import export as export
from pipelines.ingest import ingest as ingest
from pipelines.inspect import inspect as inspect
from pipelines.match import match as match
from pipelines.partition import partition as partition
from pipelines.poses import poses as poses
from pipelines.render import render as render
from pipelines.report import report as report
from pipelines.run import run as run
from pipelines.train import train as train
from pipelines.update import update as update

__version__: str
_NAMES: dict[str, str]
