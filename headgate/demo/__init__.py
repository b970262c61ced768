"""The demo: real models, real traffic, three rollouts on the real stack."""
