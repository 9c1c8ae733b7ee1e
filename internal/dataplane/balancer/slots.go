package balancer

import (
	"crypto/sha256"
	"encoding/binary"
	"math"

	"github.com/strata-cloud/strata/internal/nodeapi"
)

// How long the lists are.
const (
	hashSlots = 1009 // a prime, so that no weight fits it by chance
	maxSlots  = 1024
)

// usable are the members that get connections: those that are up, or else the backups.
func usable(p *nodeapi.LBPool, up func(member string) bool) []nodeapi.LBMember {
	var first, second []nodeapi.LBMember
	for _, m := range p.Members {
		switch {
		case m.Weight == 0 || !up(m.ID):
		case m.Backup:
			second = append(second, m)
		default:
			first = append(first, m)
		}
	}
	if len(first) == 0 {
		return second
	}
	return first
}

// inTurn interleaves members by weight: of each run of slots, each member has its share.
func inTurn(members []nodeapi.LBMember) []string {
	weights, total := shares(members)
	credit := make([]int, len(members))
	out := make([]string, 0, total)
	for range total {
		best := 0
		for i := range members {
			credit[i] += weights[i]
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		out = append(out, members[best].ID)
	}
	return out
}

// shares are the weights in lowest terms, and small enough for a list.
func shares(members []nodeapi.LBMember) (weights []int, total int) {
	divisor := 0
	for _, m := range members {
		divisor = gcd(divisor, m.Weight)
		total += m.Weight
	}
	sum := 0
	for _, m := range members {
		w := m.Weight / divisor
		if total/divisor > maxSlots {
			w = max(1, m.Weight*maxSlots/total)
		}
		weights = append(weights, w)
		sum += w
	}
	return weights, sum
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// leastBusy is whom always the least busy member of now on would be, if connections came and
// none went.
func leastBusy(members []nodeapi.LBMember, busy func(member string) int) []string {
	load := make([]int, len(members))
	for i, m := range members {
		load[i] = busy(m.ID)
	}
	n := min(max(16*len(members), 64), maxSlots)
	out := make([]string, 0, n)
	for range n {
		best := 0
		for i, m := range members {
			// (load+1)/weight, compared without fractions.
			if (load[i]+1)*members[best].Weight < (load[best]+1)*m.Weight {
				best = i
			}
		}
		load[best]++
		out = append(out, members[best].ID)
	}
	return out
}

// byHash gives each slot to the member with the highest weighted hash of both, so that a
// member that comes or goes changes nobody else's slots, and every node says the same.
func byHash(members []nodeapi.LBMember) []string {
	out := make([]string, hashSlots)
	for slot := range out {
		best := math.Inf(-1)
		for _, m := range members {
			sum := sha256.Sum256(binary.BigEndian.AppendUint32([]byte(m.ID), uint32(slot)))
			// Logarithm of a uniform number by the weight: rendezvous hashing with weights.
			x := (float64(binary.BigEndian.Uint64(sum[:8])>>11) + 0.5) / (1 << 53)
			if score := -float64(m.Weight) / math.Log(x); score > best {
				best, out[slot] = score, m.ID
			}
		}
	}
	return out
}
