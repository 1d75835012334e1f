"""The room both doors share: contract, pictures, fetching, scores. Knows no web framework."""
