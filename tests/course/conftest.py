from tests.training.conftest import (  # noqa: F401 - fixtures
    colours,
    data_cache,
    draw,
    fresh_accelerator_state,
    png,
    write_class_folders,
)
