package cli

import (
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/strata-cloud/strata/internal/nodes"
	"github.com/strata-cloud/strata/internal/region"
)

// defaultTokenLife is enough to walk over to the other machine.
const defaultTokenLife = time.Hour

func (a *app) token() *cobra.Command {
	var life time.Duration
	var role string
	create := &cobra.Command{Use: "create", Short: "Make a token with which other machines join the cloud", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t, err := region.NewAdmin(a.dataDir).NewToken(cmd.Context(), role, life)
			if err != nil {
				return err
			}
			out := table{}
			out.add("token", t.Token)
			out.add("role", t.Role)
			out.add("expires", t.Expires.Local().Format(time.RFC1123))
			out.add("on the other machine", fmt.Sprintf("strata join %s --token %s", t.Address, t.Token))
			return a.show(t, out)
		}}
	create.Flags().DurationVar(&life, "life", defaultTokenLife, "how long machines can join with it")
	create.Flags().StringVar(&role, "role", nodes.RoleNode, "what they become: node, or control for a member of the control plane (which is a node, too)")
	c := &cobra.Command{Use: "token", Short: "Let other machines join the cloud"}
	c.AddCommand(create)
	return c
}

func (a *app) node() *cobra.Command {
	list := &cobra.Command{Use: "list", Short: "List the machines of the cloud", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := region.NewAdmin(a.dataDir).Status(cmd.Context())
			if err != nil {
				return err
			}
			if s.Problem != "" {
				return errors.New(s.Problem)
			}
			tables := []table{nodeTable(s)}
			if t := waitingTable(s); len(t.rows) > 0 {
				tables = append(tables, t)
			}
			return a.show(s.Nodes, tables...)
		}}
	remove := &cobra.Command{Use: "remove NODE", Short: "Take a machine without servers out of the cloud", Args: cobra.ExactArgs(1),
		Long: "Take a machine without servers out of the cloud. Its certificate is good for nothing from then on; strata reset on that machine removes what is left there.",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := region.NewAdmin(a.dataDir).RemoveNode(cmd.Context(), args[0]); err != nil {
				return err
			}
			a.progress("node %s is out of the cloud; run strata reset there", args[0])
			return nil
		}}
	c := &cobra.Command{Use: "node", Short: "Show, empty and remove the machines of the cloud"}
	c.AddCommand(list, a.drain(), a.undrain(), remove)
	return c
}
