package cluster

import (
	"math/rand/v2"
	"strconv"
)

// letters are what a name begins with that nobody chose
// (magnum/common/name_generator.py).
var letters = [...]string{"alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "pi", "rho", "sigma", "tau", "upsilon", "phi", "chi", "psi", "omega"}

// anyName makes a name such as zeta-22-cluster.
func anyName(kind string) string {
	return letters[rand.IntN(len(letters))] + "-" + strconv.Itoa(1+rand.IntN(24)) + "-" + kind
}
