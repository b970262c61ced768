"""What stands in examples/ can be used as it stands."""

from pathlib import Path

import yaml

from headgate.core.monitoring import MonitoringSpec

EXAMPLES = Path(__file__).parents[2] / "examples"


def test_the_monitoring_example_is_a_spec_and_names_the_trainer_beside_it() -> None:
    spec = MonitoringSpec.model_validate(yaml.safe_load((EXAMPLES / "monitoring.yaml").read_text()))
    assert spec.retrain.trainer is not None
    module, _, function = str(spec.retrain.trainer.callable).partition(":")
    assert f"def {function}(" in (EXAMPLES.parent / f"{module.replace('.', '/')}.py").read_text()
