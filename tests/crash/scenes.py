"""The scene of the crash tests: small, with everything in it."""

from __future__ import annotations

from plans import Act, MinionPlan, PipelinePlan, Plan, ResourcePlan, Step

SCENE = Plan(
    seed=1,
    pipelines=[
        PipelinePlan("lines", "cursor", events=5, batch=2),
        PipelinePlan("posts", "outside", events=3),
        PipelinePlan("alerts", "target"),
    ],
    resources=[ResourcePlan("disk")],
    minions=[
        MinionPlan(
            "trader",
            "lines",
            keys=2,
            needs=["disk"],
            steps=[
                Step("check", [Act("call", to="disk"), Act("after", every=3)]),
                Step(
                    "book", [Act("fail", every=2, times=2), Act("goto", to="tell")], 4
                ),
                Step("never"),
                Step(
                    "tell",
                    [
                        Act("emit", to="alerts", times=2),
                        Act("abort", every=5, rest=3),
                        Act("after", every=2, rest=1),
                    ],
                ),
            ],
        ),
        MinionPlan(
            "clerk",
            "lines",
            max_in_flight=3,
            steps=[
                Step(
                    "ask",
                    [
                        Act("wait", every=4),
                        Act("wait", every=4, rest=1, early=True),
                        Act("wait", every=4, rest=2, timed=True),
                        Act("cancel", every=4, rest=3),
                    ],
                ),
                Step("act", [Act("after", every=2)]),
                Step(
                    "talk",
                    [
                        Act("receive", every=2),
                        Act("receive", every=2, rest=1, early=True),
                        Act("fail", every=2),
                    ],
                    3,
                ),
                Step("close"),
            ],
        ),
        MinionPlan(
            "poster",
            "posts",
            steps=[Step("post", [Act("after", every=2)]), Step("end")],
        ),
        MinionPlan(
            "listener",
            "alerts",
            keys=2,
            hold=True,
            steps=[
                Step("hear", [Act("quarantine", every=2)]),
                Step("file", [Act("wait", every=2, rest=1, timed=True)]),
            ],
        ),
    ],
)
