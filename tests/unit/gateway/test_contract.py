from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from gateway.errors import ContractMismatch
from gateway.model_client.messages import Metadata, Signature, TensorSpec
from gateway.scoring.contract import ContractDocument, ModelContract, Preprocessing, join

FLOAT = np.dtype(np.float32)
DOCUMENT = ContractDocument(("cat", "dog", "owl"), Preprocessing(299, 200, "tf"))


def metadata(
    inputs: dict[str, TensorSpec] | None = None, outputs: dict[str, TensorSpec] | None = None
) -> Metadata:
    signature = Signature(
        inputs={"input_8": TensorSpec(FLOAT, (-1, 299, 200, 3))} if inputs is None else inputs,
        outputs={"dense_7": TensorSpec(FLOAT, (-1, 3))} if outputs is None else outputs,
        method_name="tensorflow/serving/predict",
    )
    return Metadata(7, {"serving_default": signature})


def joined(document: ContractDocument = DOCUMENT, **changes: Any) -> ModelContract:
    return join("pets", metadata(**changes), document)


def test_a_contract_that_fits_has_names_dtypes_and_shapes_from_the_signature() -> None:
    assert joined() == ModelContract(
        model="pets",
        version=7,
        document=DOCUMENT,
        input_name="input_8",
        input_dtype=FLOAT,
        input_shape=(-1, 299, 200, 3),
        output_name="dense_7",
        output_shape=(-1, 3),
    )


@pytest.mark.parametrize("shape", [(-1, -1, -1, 3), (1, 299, 200, 3), (-1, 299, 200, -1)])
def test_sizes_that_the_signature_leaves_open_fit_and_stay_as_they_are(
    shape: tuple[int, ...],
) -> None:
    assert joined(inputs={"x": TensorSpec(FLOAT, shape)}).input_shape == shape


def test_a_rank_that_the_signature_leaves_open_is_what_the_contract_makes() -> None:
    open_rank = TensorSpec(FLOAT, None)

    contract = joined(inputs={"x": open_rank}, outputs={"y": open_rank})

    assert contract.input_shape == (-1, 299, 200, 3)
    assert contract.output_shape == (-1, 3)


def test_of_several_tensors_the_contract_names_the_right_one() -> None:
    picture, scores = TensorSpec(FLOAT, (-1, 299, 200, 3)), TensorSpec(FLOAT, (-1, 3))
    other = TensorSpec(FLOAT, (-1, 2))
    document = replace(DOCUMENT, input="picture", output="scores")

    contract = joined(
        document,
        inputs={"picture": picture, "other": other},
        outputs={"scores": scores, "other": other},
    )

    assert (contract.input_name, contract.output_name) == ("picture", "scores")


@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_floats_of_both_sizes_are_sent(dtype: type) -> None:
    spec = TensorSpec(np.dtype(dtype), (-1, 299, 200, 3))

    assert joined(inputs={"x": spec}).input_dtype == dtype


def test_bytes_are_sent_where_nothing_is_scaled() -> None:
    document = replace(DOCUMENT, preprocessing=Preprocessing(299, 200, "none"))
    spec = TensorSpec(np.dtype(np.uint8), (-1, 299, 200, 3))

    assert joined(document, inputs={"x": spec}).input_dtype == np.uint8


@pytest.mark.parametrize(
    ("document", "changes", "sides"),
    [
        (
            replace(DOCUMENT, signature="score"),
            {},
            ["version 7 of 'pets'", "the signature 'score'", "has 'serving_default'"],
        ),
        (replace(DOCUMENT, input="picture"), {}, ["the input 'picture'", "has 'input_8'"]),
        (replace(DOCUMENT, output="scores"), {}, ["the output 'scores'", "has 'dense_7'"]),
        (
            DOCUMENT,
            {"outputs": {"a": TensorSpec(FLOAT, (-1, 3)), "b": TensorSpec(FLOAT, (-1, 3))}},
            ["the outputs 'a', 'b'", 'name it as "output"'],
        ),
        (DOCUMENT, {"inputs": {}}, ["the inputs none", 'name it as "input"']),
        (
            DOCUMENT,
            {"inputs": {"x": TensorSpec(FLOAT, (-1, 299, 299, 3))}},
            ["[-1, 299, 200, 3]", "'x' takes [-1, 299, 299, 3]"],
        ),
        (
            DOCUMENT,
            {"inputs": {"x": TensorSpec(FLOAT, (-1, 3, 299, 200))}},
            ["[-1, 299, 200, 3]", "[-1, 3, 299, 200]"],
        ),
        (DOCUMENT, {"inputs": {"x": TensorSpec(FLOAT, (-1, 4))}}, ["'x' takes [-1, 4]"]),
        (
            replace(DOCUMENT, preprocessing=Preprocessing(9, 9, "tf", color_mode="grayscale")),
            {"inputs": {"x": TensorSpec(FLOAT, (-1, 9, 9, 3))}},
            ["[-1, 9, 9, 1]", "[-1, 9, 9, 3]"],
        ),
        (
            DOCUMENT,
            {"inputs": {"x": TensorSpec(np.dtype(np.int32), (-1, 299, 200, 3))}},
            ["'x'", "takes int32", "float32, float16 or uint8"],
        ),
        (
            DOCUMENT,
            {"inputs": {"x": TensorSpec(np.dtype(np.uint8), (-1, 299, 200, 3))}},
            ["takes uint8", "scaling 'tf'", 'must be "none"'],
        ),
        (
            DOCUMENT,
            {"outputs": {"y": TensorSpec(FLOAT, (-1, 4))}},
            ["3 labels", "'y' has the shape [-1, 4]", "must be [-1, 3]"],
        ),
        (DOCUMENT, {"outputs": {"y": TensorSpec(FLOAT, (-1,))}}, ["has the shape [-1]"]),
        (
            DOCUMENT,
            {"outputs": {"y": TensorSpec(np.dtype(object), (-1, 3))}},
            ["'y'", "holds object", "scores are numbers"],
        ),
    ],
)
def test_a_contract_that_does_not_fit_is_refused_and_both_sides_are_named(
    document: ContractDocument, changes: dict[str, Any], sides: list[str]
) -> None:
    with pytest.raises(ContractMismatch) as error:
        joined(document, **changes)

    assert [side for side in sides if side not in error.value.message] == []


class TestTwoVersions:
    """What is compared when another version answered than the one the tensor was made for."""

    FIRST = joined()

    def test_versions_alike_share_tensor_and_answer(self) -> None:
        second = replace(self.FIRST, version=8)

        assert self.FIRST.same_tensor(second)
        assert self.FIRST.same_answer(second)

    @pytest.mark.parametrize(
        "changes",
        [
            {"labels": ("dog", "cat", "owl")},
            {"scores": "probabilities"},
        ],
    )
    def test_other_labels_leave_the_tensor_and_change_the_answer(
        self, changes: dict[str, Any]
    ) -> None:
        second = replace(self.FIRST, document=replace(DOCUMENT, **changes))

        assert self.FIRST.same_tensor(second)
        assert not self.FIRST.same_answer(second)

    @pytest.mark.parametrize(
        "preprocessing",
        [
            {"height": 298},
            {"scaling": "torch"},
            {"resampling": "box"},
            {"color_order": "bgr"},
            {"transparency": (0, 0, 0)},
            {"exif_orientation": True},
            {"sixteen_bit": "scale"},
        ],
    )
    def test_another_preparation_changes_both(self, preprocessing: dict[str, Any]) -> None:
        other = replace(DOCUMENT, preprocessing=replace(DOCUMENT.preprocessing, **preprocessing))
        second = replace(self.FIRST, document=other)

        assert not self.FIRST.same_tensor(second)
        assert not self.FIRST.same_answer(second)

    @pytest.mark.parametrize(
        "changes", [{"input_name": "x"}, {"input_dtype": np.dtype(np.float16)}]
    )
    def test_another_input_changes_both(self, changes: dict[str, Any]) -> None:
        second = replace(self.FIRST, **changes)

        assert not self.FIRST.same_tensor(second)
        assert not self.FIRST.same_answer(second)

    def test_another_output_changes_the_answer(self) -> None:
        assert not self.FIRST.same_answer(replace(self.FIRST, output_name="other"))
