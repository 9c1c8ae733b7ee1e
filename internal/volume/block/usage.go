package block

import "github.com/strata-cloud/strata/internal/store"

// usage counts what a project has now.
func (c *Core) usage(project string) map[string]int {
	return c.count(c.Volumes.By("project", project), c.Snapshots.By("project", project), c.Backups.By("project", project), c.Groups.Count("project", project))
}

// Usage counts what a project has, inside the ledger.
func (c *Core) Usage(tx *store.Tx, project string) map[string]int {
	return c.count(c.Volumes.TxBy(tx, "project", project), c.Snapshots.TxBy(tx, "project", project), c.Backups.TxBy(tx, "project", project), c.Groups.TxCount(tx, "project", project))
}

func (c *Core) count(volumes []*Volume, snapshots []*Snapshot, backups []*Backup, groups int) map[string]int {
	u := map[string]int{"groups": groups}
	add := func(more map[string]int) {
		for k, n := range more {
			u[k] += n
		}
	}
	for _, v := range volumes {
		add(c.VolumeCost(v.TypeID, v.SizeGiB))
	}
	for _, s := range snapshots {
		add(c.SnapshotCost(s.TypeID, s.SizeGiB))
	}
	for _, b := range backups {
		add(map[string]int{"backups": 1, "backup_gigabytes": b.SizeGiB})
	}
	return u
}

// VolumeCost is what a volume takes of the quotas.
func (c *Core) VolumeCost(typeID string, gib int) map[string]int {
	name := c.Types.Name(typeID)
	return map[string]int{"volumes": 1, "gigabytes": gib, "volumes_" + name: 1, "gigabytes_" + name: gib}
}

// SnapshotCost is what a snapshot takes of the quotas.
func (c *Core) SnapshotCost(typeID string, gib int) map[string]int {
	name := c.Types.Name(typeID)
	return map[string]int{"snapshots": 1, "gigabytes": gib, "snapshots_" + name: 1, "gigabytes_" + name: gib}
}

// GrowCost is what more GiB of a volume take.
func (c *Core) GrowCost(typeID string, gib int) map[string]int {
	return map[string]int{"gigabytes": gib, "gigabytes_" + c.Types.Name(typeID): gib}
}

// Charge refuses, in the ledger, what would take the project over its quota.
func (c *Core) Charge(tx *store.Tx, project string, more map[string]int) error {
	return c.Quotas.Fits(project, c.Usage(tx, project), more)
}
