"""InstructRec's tables as grids (Zhang et al. 2023, arXiv:2305.07001): `harness grid NAME --model MODEL`.

The model is one that has been tuned already (`harness tune --task instructrec-data`), but in the study of a held-out
scenario, where each block tunes a LoRA of its own on the base that is given. Every language model chooses its template
on 500 questions of validation. Data is Amazon's Games unless the title says otherwise; what needs no reviews can be
rehearsed with `--set dataset=ml-100k`. GPT-3.5 was asked 500 questions of each: `--sample 500`.

Hard negatives name the run of a first stage: `--set retrieval=DIGEST`, with one of each split, since the template is
chosen among hard negatives as well.
"""

from __future__ import annotations

from harness.grid.declared import Block, Grid, Settings, Stage

CI: Settings = {"budget": "ci"}
CHOICE = ("instruction", 500)
GAMES: Settings = {"dataset": "amazon-games"}
CDS: Settings = {"dataset": "amazon-cds"}
SEARCH: Settings = {**GAMES, "scenario": "product-search"}
QUERIES: tuple[Settings, ...] = (
    {"preference": "P2", "intention": "I0"},
    {"intention": "I1"},
    {"intention": "I2"},
)
PERSONALISED: tuple[Settings, ...] = tuple({**GAMES, "scenario": "personalised-search", **query} for query in QUERIES)
MIXTURES: dict[str, Settings] = {
    "sequential": {"searched": 0, "personalised": 0},
    "and product search": {"personalised": 0},
    "and personalised search": {"queries": "P2,I2"},
    "and vague intentions": {},
}
"""What the study of a held-out scenario tunes on, each beside what stands above it; the last holds nothing out."""


def _grid(title: str, tests: tuple[Settings, ...], *models: str) -> Grid:
    """Baselines that need no training, those that do, and the language models."""
    option, sample = CHOICE
    trained = tuple(model for model in models if not model.startswith("search:BM25"))
    trivial = ("simple:random", "simple:popularity", *(model for model in models if model not in trained))
    return Grid(
        title,
        (
            Block("instructrec", name="trivial", model=trivial, test=tests),
            Block("instructrec", name="trained", model=trained, test=tests, recipe=CI),
            Block("instructrec", name="language model", test=tests, choose={option: ()}, choose_sample=sample),
        ),
    )


RANKERS = ("recbole:SASRec", "recbole:BERT4Rec", "recbole:GRU4Rec")
sequential = _grid("InstructRec, Table 6: sequential recommendation", (GAMES,), *RANKERS)
personalised = _grid("InstructRec, Table 7: personalised search", PERSONALISED, "search:BM25", "search:TEM")
search = _grid("InstructRec, Table 8: product search", (SEARCH,), "search:BM25", "search:DSSM")
hard = _grid("InstructRec, Table 9: hard negatives", ({**GAMES, "candidates": "hard9"},), *RANKERS[:1])
hundred = _grid(
    "InstructRec, Table 10: 100 candidates, personalised search",
    ({**PERSONALISED[1], "candidates": "random99"},),
    *("search:BM25", "search:TEM"),
)
cds = _grid("InstructRec, Table 11: CDs, with a model that was tuned on Games", (CDS,), *RANKERS)
held_out = Grid(
    "InstructRec, Figure 3: vague intentions, by what a model was tuned on",
    tuple(
        Block(
            "instructrec",
            name=name,
            test=(PERSONALISED[1],),
            first=Stage("instructrec-data", set={**GAMES, **mixture}, recipe={"budget": "lora"}),
            choose={CHOICE[0]: ()},
            choose_sample=CHOICE[1],
        )
        for name, mixture in MIXTURES.items()
    ),
)
