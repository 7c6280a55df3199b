def pytest_configure(config):
    config.option.maxfail = 0
