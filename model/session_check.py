"""Run an export in a process of its own, so that nothing of the model it came from can help it.

`python -m model.session_check DIRECTORY SIGNATURE INPUT OUTPUT PROBE.npy ANSWER.npz`
"""

import sys
from pathlib import Path

import numpy as np

from model import saved_model


def main(arguments: list[str]) -> None:
    """Call the scoring signature and `contract` on the probe batch and save both answers."""
    directory, signature, input_name, output_name, probe_file, answer_file = arguments
    probe = np.load(probe_file)
    requests = np.array([b""] * len(probe), dtype=object)
    answers = saved_model.run(
        Path(directory),
        {
            signature: {input_name: probe},
            saved_model.CONTRACT_SIGNATURE: {saved_model.CONTRACT_INPUT: requests},
        },
    )
    texts = answers[saved_model.CONTRACT_SIGNATURE][saved_model.CONTRACT_OUTPUT]
    scores = answers[signature][output_name]
    np.savez(answer_file, scores=scores, texts=texts.astype(bytes))


if __name__ == "__main__":
    main(sys.argv[1:])
