"""Settings are read strictly, every one says what it is, and the table of methods holds what it says."""

from __future__ import annotations

import ast
import inspect
import math
from dataclasses import FrozenInstanceError, asdict, dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from helpers import EVERY, ON_POLICY, build, equal_team, finite, rollout, seeds, team

import algorithms
from algorithms import KNOWN, METHODS, PURPOSES, SettingError, check, config, settings
from algorithms.clip import clip_step
from algorithms.config import ClipSettings, ExactSettings, MADDPGSettings, OnPolicySettings, TrustRegionSettings
from algorithms.maddpg import MADDPG
from algorithms.trust_region import trust_region_step
from algorithms.validation import Bounds, is_checked, strict

SETTINGS = [OnPolicySettings, ClipSettings, TrustRegionSettings, MADDPGSettings, ExactSettings]


def refusal(name: str, given: Any) -> SettingError:
    with pytest.raises(SettingError) as caught:
        settings(name, given)
    return caught.value


# Strict reading


def test_what_is_given_replaces_defaults_and_the_rest_stays() -> None:
    given = settings("happo", {"clip": 0.1, "actor_epochs": 15, "hidden_sizes": [64]})
    assert given == ClipSettings(clip=0.1, actor_epochs=15, hidden_sizes=(64,))


def test_an_unknown_key_is_refused_by_name_with_the_valid_ones() -> None:
    error = refusal("happo", {"clip_param": 0.1})
    assert error.key == "clip_param"
    assert "unknown setting 'clip_param'" in str(error)
    assert all(field.name in str(error) for field in fields(ClipSettings))


def test_a_setting_of_another_method_is_unknown() -> None:
    assert refusal("hatrpo", {"clip": 0.1}).key == "clip"
    assert refusal("happo", {"delta": 0.01}).key == "delta"
    assert refusal("maddpg", {"share_actors": True}).key == "share_actors"


def test_an_unknown_algorithm_is_refused_with_the_valid_ones() -> None:
    error = refusal("mapo", {})
    assert error.key == "algorithm"
    assert all(name in str(error) for name in KNOWN)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("actor_epochs", True),  # a bool is not 1
        ("actor_epochs", 5.0),  # nor is a float an int
        ("actor_epochs", "5"),
        ("actor_epochs", None),
        ("clip", "0.2"),
        ("clip", True),
        ("clip", None),
        ("clip", [0.2]),
        ("share_actors", 1),
        ("share_actors", "true"),
        ("share_actors", 0),
        ("hidden_sizes", 128),
        ("hidden_sizes", "128"),
        ("hidden_sizes", []),
        ("hidden_sizes", {128: 128}),
    ],
)
def test_a_value_of_another_type_is_refused_by_key(key: str, value: Any) -> None:
    error = refusal("mappo", {key: value})
    assert error.key == key
    assert repr(value) in str(error)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("envs", 0),
        ("rollout_length", -1),
        ("gamma", 1.0001),
        ("gamma", -0.1),
        ("gae_lambda", 2),
        ("clip", 0.0),
        ("huber_delta", 0),
        ("critic_lr", -1e-4),
        ("critic_lr", math.inf),
        ("critic_lr", math.nan),
        ("gamma", math.nan),
        ("initial_log_std", -math.inf),
        ("initial_log_std", 1000),
        ("entropy_coef", -0.01),
    ],
)
def test_a_value_out_of_range_is_refused_by_key_with_the_range(key: str, value: float) -> None:
    error = refusal("mappo", {key: value})
    assert error.key == key
    assert "must be" in str(error)


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
def test_what_is_no_finite_number_is_called_so(value: float) -> None:
    assert str(refusal("happo", {"clip": value})) == f"{value} is not a finite number; must be above 0"


@pytest.mark.parametrize("values", [None, ["clip"], "clip"])
def test_what_is_no_mapping_is_refused(values: Any) -> None:
    assert str(refusal("happo", values)) == f"{values!r} is not a mapping of names to values"


def test_settings_of_a_method_of_ones_own_may_be_annotated_further_and_choose_among_numbers() -> None:
    @dataclass(frozen=True)
    class Own(ClipSettings):
        layers: Annotated[int, Bounds(1, 2), "hidden ones"] = 1
        every: Literal[1, 2, 4] = 1

    assert strict(Own, {"layers": 2, "every": 4}).every == 4
    with pytest.raises(SettingError, match=r"^3 is none of 1, 2, 4$"):
        strict(Own, {"every": 3})
    assert not is_checked(Annotated[str, Bounds(1, 2)])


def test_a_buffer_that_is_smaller_than_one_step_of_all_environments_is_named() -> None:
    with pytest.raises(SettingError, match=r"^5 is out of range: must be at least envs$") as caught:
        check(team(), settings("maddpg", {"buffer_size": 5, "n_step": 1}))
    assert caught.value.key == "buffer_size"


def test_a_number_that_32_bits_do_not_hold_is_refused_with_the_largest() -> None:
    assert str(refusal("mappo", {"clip": 1e39})) == "1e+39 is out of range: must be above 0 and at most 3.4e+38"
    assert str(refusal("mappo", {"gamma": 1e39})) == "1e+39 is out of range: must be from 0 to 1"


def test_exact_learning_needs_discounting() -> None:
    assert refusal("exact", {"gamma": 1.0}).key == "gamma"
    assert settings("mappo", {"gamma": 1.0}).gamma == 1


@pytest.mark.parametrize("value", [[128, "64"], [128, 0], [128, 64.0], [True], [[128]], [None]])
def test_every_element_of_a_list_is_checked(value: list[Any]) -> None:
    assert refusal("mappo", {"hidden_sizes": value}).key == "hidden_sizes"


@pytest.mark.parametrize("kind", SETTINGS)
def test_every_count_has_an_upper_bound(kind: type) -> None:
    """A slip of the keyboard would otherwise fill the memory or never end."""
    hints = get_type_hints(kind, include_extras=True)
    numbers = {key: get_args(hint)[0] if get_origin(hint) is tuple else hint for key, hint in hints.items()}
    counts = {key: get_args(hint)[1] for key, hint in numbers.items() if get_args(hint)[:1] == (int,)}
    assert {key for key, bounds in counts.items() if math.isinf(bounds.high)} == set()
    assert {"envs", "rollout_length"} <= set(counts)


def test_gradient_steps_per_environment_step_have_an_upper_bound() -> None:
    assert "from just above 0 to 100" in str(refusal("maddpg", {"update_to_data": 42000}))


def test_a_misspelt_setting_is_guessed() -> None:
    assert "did you mean critic_epochs?" in str(refusal("happo", {"critc_epochs": 3}))


def test_a_list_of_too_many_layers_is_refused() -> None:
    assert "17 numbers" in str(refusal("happo", {"hidden_sizes": [8] * 17}))


def test_a_whole_number_serves_as_a_float_and_becomes_one() -> None:
    given = settings("mappo", {"gamma": 1, "max_grad_norm": 5})
    assert isinstance(given, ClipSettings)
    assert type(given.gamma) is type(given.max_grad_norm) is float


def test_bounds_include_their_ends_unless_they_say_so() -> None:
    assert 0 in Bounds(0, 1)
    assert 1 in Bounds(0, 1)
    assert 0 not in Bounds(0, 1, open_low=True)
    assert math.inf not in Bounds(0)
    assert [str(Bounds(0, 1)), str(Bounds(1)), str(Bounds(0, open_low=True))] == [
        "from 0 to 1",
        "at least 1",
        "above 0",
    ]


def test_a_setting_error_is_a_value_error_that_says_what_was_meant() -> None:
    error = refusal("hatrpo", {"backtrack": 1})
    assert isinstance(error, ValueError)
    assert str(error) == "1 is out of range: must be from just above 0 to 0.999"


@pytest.mark.parametrize("cls", SETTINGS)
def test_every_default_passes_its_own_check(cls: type) -> None:
    assert strict(cls, asdict(cls())) == cls()


@pytest.mark.parametrize("cls", SETTINGS)
def test_settings_are_frozen(cls: type) -> None:
    with pytest.raises(FrozenInstanceError):
        cls().gamma = 0.5


def test_every_setting_is_followed_by_a_sentence_that_says_what_it_is() -> None:
    tree = ast.parse(inspect.getsource(config))
    classes = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name.endswith("Settings")]
    assert sorted(node.name for node in classes) == sorted(cls.__name__ for cls in SETTINGS)
    bare = []
    for node in classes:
        for this, after in zip(node.body, [*node.body[1:], None], strict=True):
            if isinstance(this, ast.AnnAssign):
                told = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
                if not (told and isinstance(after.value.value, str) and after.value.value.rstrip().endswith(".")):  # type: ignore[union-attr]
                    bare.append(f"{node.name}.{ast.unparse(this.target)}")
    assert bare == []


# Shared actors


@pytest.mark.parametrize("name", ["happo", "hatrpo", "haippo"])
def test_agents_that_move_one_by_one_cannot_share_an_actor_and_the_error_says_why(name: str) -> None:
    for how in (True, "without_index"):
        error = refusal(name, {"share_actors": how})
        assert error.key == "share_actors"
    assert f"{name} cannot share actors: its update is sequential" in str(error)


@pytest.mark.parametrize("name", ["ippo", "mappo", "happo", "hatrpo", "matrpo", "haippo"])
def test_actors_are_not_shared_unless_told_and_stored_configurations_say_so_as_ever(name: str) -> None:
    assert asdict(settings(name, {}))["share_actors"] is False


@pytest.mark.parametrize("name", ["ippo", "mappo", "matrpo"])
def test_agents_that_move_all_at_once_may_share_an_actor(name: str) -> None:
    learner = build(name, equal_team(3), share_actors=True)
    assert len(learner.actors) == 1
    rows = learner.update(rollout(equal_team(3)))
    assert [row["agent"] for row in rows] == ["0", "1", "2", "team"]
    assert finite(rows)


@pytest.mark.parametrize(
    ("members", "sizes"),
    [(team((5, 3), (2, 2)), "3/2, 5/2"), (team((4, 4), (1, 2)), "4/1, 4/2")],
)
def test_agents_of_unequal_spaces_cannot_share_an_actor_and_the_error_names_the_sizes(
    members: algorithms.Team, sizes: str
) -> None:
    shared = settings("mappo", {"share_actors": True})
    for refuse in (lambda: check(members, shared), lambda: algorithms.build("mappo", members, shared, seeds())):
        with pytest.raises(SettingError, match="equal observation sizes, action spaces and masks") as caught:
            refuse()
        assert caught.value.key == "share_actors"
        assert sizes in str(caught.value)


# The table of methods


def test_the_table_is_what_the_papers_say() -> None:
    table = {name: METHODS[name].make.keywords for name in ON_POLICY}  # type: ignore[attr-defined]
    assert {name: tuple(row[key] for key in ("critic", "update", "step")) for name, row in table.items()} == {
        "ippo": ("decentralised", "simultaneous", clip_step),
        "mappo": ("centralised", "simultaneous", clip_step),
        "happo": ("centralised", "sequential", clip_step),
        "hatrpo": ("centralised", "sequential", trust_region_step),
        "matrpo": ("centralised", "simultaneous", trust_region_step),
        "haippo": ("decentralised", "sequential", clip_step),
    }
    assert METHODS["maddpg"].make is MADDPG


def test_the_five_published_methods_are_told_from_the_ablations() -> None:
    assert sorted(METHODS) == sorted(EVERY)
    assert [name for name, method in METHODS.items() if not method.ablation] == [
        "ippo",
        "mappo",
        "happo",
        "hatrpo",
        "maddpg",
    ]


def test_each_method_takes_the_settings_of_its_step() -> None:
    kinds = {name: method.settings for name, method in METHODS.items()}
    assert {name for name, kind in kinds.items() if kind is TrustRegionSettings} == {"hatrpo", "matrpo"}
    assert {name for name, kind in kinds.items() if kind is MADDPGSettings} == {"maddpg"}
    assert {name for name, kind in kinds.items() if kind is ClipSettings} == {"ippo", "mappo", "happo", "haippo"}


@pytest.mark.parametrize("name", EVERY)
def test_every_row_of_the_table_builds_acts_and_updates(name: str) -> None:
    members = team()
    learner = build(name, members)
    data = rollout(members)
    for explore in (True, False):
        actions = learner.act([x[0] for x in data.observations], explore)
        assert [tuple(action.shape) for action in actions] == [(3, 2), (3, 1), (3, 3)]
    rows = learner.update(data)
    agents = ["0", "1", "2"] if name == "maddpg" else ["0", "1", "2", "team"]
    assert sorted(str(row["agent"]) for row in rows) == agents
    assert finite(rows)
    assert learner.gradient_updates > 0


def test_every_agent_has_networks_of_its_own_sizes() -> None:
    """Observations of 5, 3 and 4 numbers, actions of 2, 1 and 3, a state of 6."""
    mappo, ippo, maddpg = (build(name, team()) for name in ("mappo", "ippo", "maddpg"))
    assert [actor.network[0].in_features for actor in mappo.actors] == [5, 3, 4]
    assert [actor.network[-1].out_features for actor in mappo.actors] == [2, 1, 3]
    assert [critic.network[0].in_features for critic in mappo.critics] == [6]
    assert [critic.network[0].in_features for critic in ippo.critics] == [5, 3, 4]
    assert [critic.network[0].in_features for critic in maddpg.critics] == [6 + 6] * 3


def test_a_learner_wants_one_seed_for_every_purpose() -> None:
    for missing in PURPOSES:
        some = {purpose: seed for purpose, seed in seeds().items() if purpose != missing}
        with pytest.raises(ValueError, match="must map each of initialisation, exploration, order, minibatches"):
            algorithms.build("happo", team(), settings("happo", {}), some)


@pytest.mark.parametrize("whose", ["actors", "critics"])
@pytest.mark.parametrize("name", ["mappo", "maddpg"])
def test_no_gradient_is_longer_than_its_setting(name: str, whose: str) -> None:
    learner = build(name, team(), max_grad_norm=1e-3)
    learner.update(rollout(team()))
    for network in getattr(learner, whose):
        assert torch.cat([p.grad.flatten() for p in network.parameters()]).norm() <= 1.001e-3


@pytest.mark.parametrize(
    ("name", "given", "key"),
    [
        ("happo", TrustRegionSettings(), "settings"),
        ("hatrpo", ClipSettings(), "settings"),
        ("maddpg", {}, "settings"),
        ("mappo", ClipSettings(actor_epochs=0), "actor_epochs"),
        ("mappo", ClipSettings(factor_bound=0.5), "factor_bound"),
        (["happo"], ClipSettings(), "algorithm"),
    ],
)
def test_settings_of_another_method_or_that_were_never_checked_are_refused(name: Any, given: Any, key: str) -> None:
    with pytest.raises(SettingError) as refused:
        algorithms.build(name, team(), given, seeds())
    assert refused.value.key == key


def test_a_setting_whose_type_cannot_be_checked_is_refused() -> None:
    @dataclass(frozen=True)
    class Loose(ClipSettings):
        speed: float = 1.0

    with pytest.raises(SettingError, match=r"none that is checked, as algorithms\.config\.Positive is"):
        replace(METHODS["happo"], settings=Loose).configure({"speed": 2.0})
