"""The transparency log behind the sequencer: tiles, signed checkpoints, the guard, epochs."""
