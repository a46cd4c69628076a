"""What the routes that tell labels have in common."""

from pydantic import BaseModel, ConfigDict, Field


class LabelQuery(BaseModel):
    """The options of a route that tells labels; each names the model that answers by default."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    top_k: int = Field(5, ge=1, le=1000, description="the most labels in each answer")
    coverage: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="adds `label_set`: the smallest set that holds the true label this often (split conformal)",
    )


class Label(BaseModel):
    """A label and how likely it is."""

    label: str = Field(examples=["cat"])
    index: int = Field(examples=[3], description="its place among the model's labels")
    probability: float = Field(examples=[0.97], description="calibrated: of answers with 0.9, nine in ten are right")
