"""The start-up hook that `kobs run` puts first on the path of the programs it records."""
