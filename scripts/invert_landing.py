"""Hit the ball to a wanted point by inverting a learned model, against optimising: in cm."""


def main() -> None:
    import tyro

    from studies import landing

    settings = tyro.cli(landing.LandingSettings, description=__doc__)
    print("\n".join(landing.rows(settings, landing.compare(settings))))


if __name__ == "__main__":
    from _entry import entry

    entry(main)
