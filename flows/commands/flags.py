"""Command-line flags from configuration classes, by pydantic-settings: names, bounds and help cost no code here."""

from typing import Any, TypeVar

from pydantic_settings import (
    BaseSettings,
    CliApp,
    CliSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from rich_argparse import RawDescriptionRichHelpFormatter

FlagsT = TypeVar("FlagsT", bound="Flags")


class Flags(BaseSettings):
    """The flags of one command; a subclass's docstring and field descriptions are its help page."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        case_sensitive=True,
        cli_avoid_json=True,
        cli_enforce_required=True,
        cli_hide_none_type=True,
        cli_implicit_flags="toggle",
        cli_kebab_case=False,
        cli_use_class_docs_for_groups=True,
    )

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Flags and given values only: a variable that happens to be called SOURCE must not change a run."""
        del settings_cls, env_settings, dotenv_settings, file_secret_settings
        return (init_settings,)

    def cli_cmd(self) -> None:
        """Nothing: the command's function reads the flags and acts."""


def read_flags(kind: type[FlagsT], command: str, arguments: list[str], **given: Any) -> FlagsT:
    """The flags in `arguments` over the `given` values over the defaults; `--help` prints the page and exits."""
    source: CliSettingsSource[Any] = CliSettingsSource(
        kind,
        cli_prog_name=f"skyloom {command}",
        formatter_class=lambda prog: RawDescriptionRichHelpFormatter(prog, max_help_position=32),
    )
    return CliApp.run(kind, cli_args=arguments, cli_settings_source=source, **given)
