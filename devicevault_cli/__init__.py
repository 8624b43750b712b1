"""dvctl: operations toolkit for DeviceVault's Redis-stream-to-SQL pipelines."""

__version__ = "1.0.0"
