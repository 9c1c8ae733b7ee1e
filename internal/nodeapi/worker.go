package nodeapi

// KubeBootstrap is what a server is told, as its user data, that is to be a worker of a
// cluster: where the region is, who vouches for it, and who it is itself.
type KubeBootstrap struct {
	Version int      `json:"strata_worker"` // 1
	Worker  string   `json:"worker"`
	Cluster string   `json:"cluster"`
	Control []string `json:"control"` // the ports of the control members, HOST:PORT
	CA      []byte   `json:"ca"`      // in PEM
	Link    KubePair `json:"link"`
}
