"""docker-compose.yml passes every setting on, and tuning writes to a place that is writable."""

import re
from pathlib import PurePosixPath

import yaml

from service.settings import PREFIX, Settings
from tests.server import ROOT

SERVICES = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]
# Fixed in the image.
FIXED = {"host", "port", "models"}


def test_every_setting_reaches_the_service():
    for service in SERVICES.values():
        names = {each.partition("=")[0].removeprefix(PREFIX).lower() for each in service["environment"]}
        assert names == Settings.model_fields.keys() - FIXED


def test_tuning_is_written_to_a_volume_of_the_image_user():
    dockerfile = (ROOT / "Dockerfile").read_text()
    for service in SERVICES.values():
        (default,) = (
            found[1] for each in service["environment"] if (found := re.match(r"QUARTET_TUNING=\$\{\w+:-(.*)\}$", each))
        )
        folder = str(PurePosixPath(default).parent)
        assert service["read_only"]
        (mount,) = (each for each in service["volumes"] if each.split(":")[1] == folder)
        assert mount.split(":")[2:] == []  # not read-only
        assert f"install -d -o quartet {folder}\n" in dockerfile
