"""The compiler: frontend, spec grammar, pipeline checking, driver, reports, graph diff."""
