"""What a run measured: `results.json` as types, written and read here alone."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Model:
    """Which of a run's models: whose part it plays, and in which numbers its file computes.

    Attributes:
      role: "teacher", "baseline" or "distilled".
      precision: "float32"; "int8" (quantization-aware training), "ptq_int8" (calibrated only),
        "dynamic_range" or "float16".
    """

    role: str
    precision: str = "float32"

    @property
    def key(self):
        """Its name in results.json and in file names, such as "distilled_int8"."""
        return self.role if self.precision == "float32" else f"{self.role}_{self.precision}"

    def at(self, precision):
        """The model of the same role in another precision."""
        return Model(self.role, precision)


TEACHER = Model("teacher")
BASELINE, DISTILLED = STUDENTS = (Model("baseline"), Model("distilled"))
INT8 = (BASELINE.at("int8"), DISTILLED.at("int8"))
# Other ways to a small file, for comparison: none of them is trained for it.
POST_TRAINING = tuple(DISTILLED.at(each) for each in ("ptq_int8", "dynamic_range", "float16"))
MODELS = (TEACHER, *STUDENTS, *INT8, *POST_TRAINING)
SHIPPED = DISTILLED.at("int8")
