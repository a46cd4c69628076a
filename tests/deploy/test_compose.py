"""docker-compose.yml passes every setting on."""

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
