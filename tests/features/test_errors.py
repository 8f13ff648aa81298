from features.errors import InputError, ModelError, ParamsError, TableError, TrainingError, VIP5Error


def test_message_is_one_line_of_found_expected_and_action() -> None:
    error = InputError("no file a\nin b", "a file", "bring it")
    assert str(error) == "found no file a in b; expected a file; do: bring it"


def test_exit_codes_tell_the_kinds_of_failure_apart() -> None:
    kinds = (ParamsError, InputError, TableError, ModelError, TrainingError)
    assert [kind.exit_code for kind in kinds] == [2, 3, 4, 5, 6]
    assert all(issubclass(kind, VIP5Error) for kind in kinds)
