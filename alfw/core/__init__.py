"""Words of the field as plain objects: frames, labels, ids, metrics, contracts (numpy only; ASE at the border)."""
