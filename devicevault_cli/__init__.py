"""dvctl: operations toolkit for DeviceVault's Redis-stream-to-SQL pipelines."""

__version__ = "0.1.0"
