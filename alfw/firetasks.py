"""The Firetasks: thin classes that only translate. Their names are stored in databases: public API for ever."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import Any

from fireworks import FiretaskBase, FWAction, LaunchPad, explicit_serialize

from alfw.config import CampaignConfig
from alfw.core.errors import ConfigError, LabelError, PluginError, StoreError
from alfw.steps import decide, evaluate, label, merge, sample, screen, select, start, train
from alfw.steps.context import Context
from alfw.store import Store
from alfw.workflow import control, rounds
from alfw.workflow.build import label_fireworks

logger = logging.getLogger("alfw")


class Stage(FiretaskBase):
    """A Firetask of one stage: checks that it may run, then lets `work` do it.

    A campaign that is paused, or that has to pause because it needs its user, gets its Firework back unrun.
    """

    required_params = ["campaign", "round"]
    optional_params = ["token"]
    begins = (
        True  # its Firework; what has begun finishes, also when the campaign is paused or stopped meanwhile
    )

    def work(self, ctx: Context) -> FWAction | None:
        """Do the stage's work; overridden by each stage."""
        raise TypeError(f"{type(self).__name__} has no work")

    def run_task(self, fw_spec: dict[str, Any]) -> FWAction | None:
        """Run the stage once; called by FireWorks."""
        if self.launchpad is None:
            raise StoreError(
                "rlaunch --offline cannot work here: every stage reads the database; run it where that is"
            )
        store = Store.from_launchpad(self.launchpad)
        if "token" in self and not rounds.is_registered(
            store, self["campaign"], self["round"], self["token"]
        ):
            return FWAction(defuse_workflow=True, exit=True)
        state = control.state(store, self["campaign"]) if self.begins else "running"
        if state == "ended":  # a rerun of what was done changes nothing; what was stopped does not begin
            decided = store.get_result(self["campaign"], self["round"], "decide") is not None
            return FWAction(defuse_workflow=not decided, exit=True)
        if state == "paused":
            return self._give_back(store)
        env = fw_spec.get("_fw_env") or {}
        with tempfile.TemporaryDirectory(prefix="alfw_", ignore_cleanup_errors=True) as folder:
            try:
                ctx = Context.load(
                    store, self["campaign"], self["round"], Path(folder), env=env, progress=_progress
                )
                return self.work(ctx)
            except merge.HoldError as error:
                store.set_round(self["campaign"], self["round"], held=str(error))
                control.pause(self.launchpad, store, self["campaign"], str(error))
            except (LabelError, PluginError, ConfigError) as error:
                if isinstance(error, LabelError) and error.policy != "pause":
                    raise
                control.pause(self.launchpad, store, self["campaign"], " ".join(str(error).split()))
        return self._give_back(store)

    def _give_back(self, store: Store) -> FWAction:
        return control.give_back(self.launchpad, store, self["campaign"], self.fw_id)


def _progress(text: str) -> None:
    """One line of progress; shown by `alfw run`, silent under `rlaunch` unless the logger "alfw" is given a handler."""
    logger.info(text)


@explicit_serialize
class StartCampaign(FiretaskBase):
    """Store a campaign and its data, and open its first round; continues it when it exists.

    Built by `lpad add` from campaign.yaml: the first construction validates everything and sets `checked: 1`;
    later ones (every load of the Firework) do nothing.
    """

    required_params = ["campaign"]
    optional_params = ["checked"]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if "checked" not in self:
            raw = start.absolute_paths(self["campaign"], Path.cwd())
            config = CampaignConfig(raw)
            start.read_data(config)
            self["campaign"], self["checked"] = config.raw, 1

    def run_task(self, fw_spec: dict[str, Any]) -> None:
        """Insert the campaign (or find it), import its data, open round 0; called by FireWorks."""
        launchpad = _launchpad(self, fw_spec)
        control.start(launchpad, CampaignConfig(self["campaign"]), fw_spec.get("_fw_env") or {}, _progress)


def _launchpad(task: FiretaskBase, fw_spec: dict[str, Any]) -> LaunchPad:
    """The worker's LaunchPad; without `_add_launchpad_and_fw_id` in the spec, the one FireWorks finds by its own rules.

    Raises
    ------
    StoreError
        That one does not hold the campaign's Firework: the worker was given another launchpad file.
    """
    if fw_spec.get("_add_launchpad_and_fw_id"):
        return task.launchpad
    launchpad = LaunchPad.auto_load()
    name = task["campaign"]["name"]
    if launchpad.fireworks.find_one({"spec._tasks.campaign.name": name, "state": "RUNNING"}) is None:
        raise StoreError(
            f"campaign {name}: add `_add_launchpad_and_fw_id: true` to the spec in campaign.yaml"
        )
    return launchpad


@explicit_serialize
class Sample(Stage):
    """Explore with one sampler."""

    def work(self, ctx: Context) -> None:
        """See `alfw.steps.sample`."""
        sample.run(ctx, self["part"])


@explicit_serialize
class Screen(Stage):
    """Screen one pool."""

    def work(self, ctx: Context) -> None:
        """See `alfw.steps.screen`."""
        screen.run(ctx, self["part"])


@explicit_serialize
class Select(Stage):
    """Choose what to label; the label Fireworks are detours built from the committed selection only."""

    def work(self, ctx: Context) -> FWAction | None:
        """See `alfw.steps.select`."""
        select.run(ctx)
        if control.has_label_children(self.launchpad, self.fw_id):
            return None
        return FWAction(detours=label_fireworks(ctx))


@explicit_serialize
class CalculateLabels(Stage):
    """Reference calculations of a pack: raw outputs only."""

    def work(self, ctx: Context) -> None:
        """See `alfw.steps.label.calculate`."""
        label.calculate(ctx, label.pack(ctx, self["first"], self["count"]))


@explicit_serialize
class JudgeLabels(Stage):
    """Labels or failures from the raw outputs of a pack."""

    begins = False

    def work(self, ctx: Context) -> FWAction:
        """See `alfw.steps.label.judge`."""
        return FWAction(stored_data=label.judge(ctx, label.pack(ctx, self["first"], self["count"])))


@explicit_serialize
class Merge(Stage):
    """Join the round's labels with the dataset."""

    def work(self, ctx: Context) -> FWAction:
        """See `alfw.steps.merge`."""
        return FWAction(stored_data=merge.run(ctx)["counts"])


@explicit_serialize
class Train(Stage):
    """Train members of the ensemble."""

    def work(self, ctx: Context) -> None:
        """See `alfw.steps.train`."""
        train.run(ctx, self["members"])


@explicit_serialize
class Evaluate(Stage):
    """Measure the ensemble."""

    def work(self, ctx: Context) -> None:
        """See `alfw.steps.evaluate`."""
        evaluate.run(ctx)


@explicit_serialize
class Decide(Stage):
    """End the campaign, or open the next round."""

    def work(self, ctx: Context) -> FWAction:
        """See `alfw.steps.decide`."""
        outputs = decide.run(ctx)["outputs"]
        if outputs["continue"]:
            rounds.open_round(self.launchpad, ctx.store, ctx.campaign, ctx.round + 1, claimed_by=self.fw_id)
        elif ctx.store.get_round(ctx.campaign, ctx.round + 1) is None:  # else it was amended, and went on
            ctx.store.set_state(ctx.campaign, "ended", outputs["why"])
        return FWAction(stored_data=outputs)
