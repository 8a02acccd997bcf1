"""Hit the ball to a wanted point by inverting a learned model, against optimising: in cm."""


def main() -> object:
    import tyro

    from studies import landing

    settings = tyro.cli(landing.LandingSettings, description=__doc__)
    found = landing.compare(settings)
    print("\n".join(landing.rows(settings, found)))
    return found


if __name__ == "__main__":
    from _entry import entry

    entry(main)
