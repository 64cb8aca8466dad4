"""TensorBoard's view of a store: event files under `events/`, made from the files of stages."""
