"""The tables and figures of papers as grids that are ready to run: `harness grid NAME --model BASE`.

TALLRec (Bao et al., RecSys 2023, arXiv:2305.00447). The paper gives neither seeds nor deviations, so the seeds here
are 0 to 4. Cross-domain results and the ablation are figures there: no numbers are published. TALLRec's own model is
LLaMA-7B after Alpaca tuning; give such a LoRA with `--adapter`, or tune one: the ablation's first stage does.

The authors' book training rows cannot be made anew. Without their file, book cells fail and say what to do;
`tallrec-table1-book-pool` draws its rows from every second row of the published validation file instead, which is
not the paper's protocol, and every row of its table says so.

PALR (Yang et al. 2023, arXiv:2305.07622). `palr-ml-100k` puts a tuned model, asked in every way, and conventional
models into one table; `palr-order` asks it with the same candidates in other orders. Both take the run of the first
stage by its digest: `--set candidates=DIGEST`. No number of the paper is for MovieLens-100K.

LLM-TRSR (Zheng et al. 2024, arXiv:2403.13325). `llm-trsr-ml-100k` has the paper's conventional models and a language
model without summaries, with 0, 3 and 5 recent items. With summaries, say `--set summaries=DIGEST` once more.

`sequential-ml-100k` is no paper's: the conventional models on MovieLens-100K, leave-one-out, full ranking, with the
budget that two CPU cores bear.
"""

from __future__ import annotations

from harness.grid.declared import Block, Grid, Settings, Stage

MOVIE: Settings = {"domain": "movie"}
BOOK: Settings = {"domain": "book"}
SEEDS = (0, 1, 2, 3, 4)
TABLE = (16, 64, 256)
AT_ONCE = ("Pop", "ItemKNN", "EASE", "DIN", "DIEN")
"""Models that a first look at the data makes, and those that need labels."""
TRAINED = (
    *("SASRec", "GRU4Rec", "BERT4Rec", "Caser", "NARM", "FPMC", "CORE", "LightSANs"),
    *("BPR", "LightGCN", "NeuMF"),
)
UP_TO_256 = tuple(2**n for n in range(9))
UP_TO_512 = (*UP_TO_256, 512)
ALPACA = Stage(task="instructions")
"""Alpaca's general instructions; `--first-set file=alpaca_data.json` says where they are."""

table1 = Grid(
    "TALLRec, Table 1: few-shot AUC (the paper's seeds are unknown; here 0 to 4)",
    (Block("tallrec", shots=TABLE, seed=SEEDS, test=(MOVIE, BOOK)),),
)
table1_book_pool = Grid(
    "TALLRec, Table 1, book: rows from half of the validation file, for want of the authors' training file",
    (Block("tallrec", shots=TABLE, seed=SEEDS, test=(BOOK,), pool="valid"),),
)
figure_k = Grid(
    "TALLRec: AUC over the number of training rows",
    (Block("tallrec", shots=UP_TO_512, seed=SEEDS, test=(MOVIE, BOOK)),),
)
cross_domain = Grid(
    "TALLRec: trained on one domain or both, tested on each, 64 rows",
    (Block("tallrec", shots=(64,), seed=SEEDS, test=(MOVIE, BOOK), train=((MOVIE,), (BOOK,), (MOVIE, BOOK))),),
)
ablation = Grid(
    "TALLRec: Alpaca tuning (AT), recommendation tuning (RT), and both",
    (
        Block("tallrec", name="AT", test=(MOVIE, BOOK), first=ALPACA),
        Block("tallrec", name="RT", shots=UP_TO_256, seed=SEEDS, test=(MOVIE, BOOK)),
        Block("tallrec", name="TALLRec", shots=UP_TO_256, seed=SEEDS, test=(MOVIE, BOOK), first=ALPACA),
    ),
)
table1_conventional = Grid(
    "TALLRec, Table 1: the conventional rows (the paper's seeds are unknown; here 0 to 4)",
    (
        Block(
            "tallrec",
            model=("recbole:GRU4Rec", "recbole:Caser", "recbole:SASRec"),
            shots=TABLE,
            seed=SEEDS,
            test=(MOVIE,),
        ),
    ),
)
sequential_ml_100k = Grid(
    "MovieLens-100K, leave-one-out, full ranking: conventional models",
    (
        Block("sequential", model=("simple:random", "simple:popularity", *(f"recbole:{name}" for name in AT_ONCE))),
        Block("sequential", model=tuple(f"recbole:{name}" for name in TRAINED), recipe={"budget": "ci"}),
    ),
)
CI: Settings = {"budget": "ci"}
palr_ml_100k = Grid(
    "PALR on MovieLens-100K: a list of ten, in every way it can be asked for, and conventional models",
    (
        Block("palr", name="trivial", model=("simple:random", "simple:popularity"), test=({"variant": "v1"},)),
        Block("palr", name="trained", model=("recbole:BPR", "recbole:NeuMF"), test=({"variant": "v1"},), recipe=CI),
        Block(
            "palr",
            name="trained, sequential",
            model=("recbole:GRU4Rec", "recbole:Caser", "recbole:SASRec"),
            test=({"variant": "v1"},),
            recipe=CI,
        ),
        Block(
            "palr",
            name="language model",
            test=(
                {"variant": "v1"},
                {},
                {"order": "shuffled"},
                {"decoding": "constrained"},
                {"decoding": "constrained", "order": "shuffled"},
                {"answer": "score"},
                {"answer": "score", "order": "shuffled"},
            ),
        ),
    ),
)
llm_trsr_ml_100k = Grid(
    "LLM-TRSR's question on MovieLens-100K: conventional models, and a language model without summaries",
    (
        Block("llm-trsr", name="trivial", model=("simple:random", "simple:popularity")),
        Block(
            "llm-trsr",
            name="trained",
            model=tuple(f"recbole:{name}" for name in ("NeuMF", "DIN", "DIEN", "GRU4Rec", "NARM", "SASRec", "CORE")),
            recipe=CI,
        ),
        Block("llm-trsr", name="language model", test=({"recent": 0}, {"recent": 3}, {"recent": 5})),
    ),
)
DRAWN: tuple[Settings, ...] = tuple({"order": "shuffled", "order_seed": seed} for seed in SEEDS)
palr_order = Grid(
    "PALR: the same candidates in other orders",
    (Block("palr", test=({}, {"order": "reversed"}, *DRAWN)),),
)
