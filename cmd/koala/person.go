package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"koala/app"
	"koala/customer"
	"koala/internal/db"
	"koala/wallet"
)

func personCommand() *cobra.Command {
	var f houseFlags
	var a customer.Application
	var role string
	c := &cobra.Command{
		Use:   "person",
		Short: "Register a person with a login",
		Long: `Registers a wearer (with a wallet), an operator or an auditor. The secret is read from
standard input, one line, so that it stands in no list of processes.`,
		Example: "  koala person --login wang --name 王芳 --phone 13800001234 --role operator < secret.txt",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			line, err := bufio.NewReader(cmd.InOrStdin()).ReadString('\n')
			if a.Secret = strings.TrimRight(line, "\r\n"); a.Secret == "" {
				return errUsage{errors.Join(errors.New("give the secret on standard input"), err)}
			}
			a.Roles = []customer.Role{customer.Role(role)}
			h, err := app.New(cmd.Context(), f.config(cmd.ErrOrStderr()))
			if err != nil {
				return err
			}
			defer h.Close()
			who, err := register(cmd.Context(), h, a)
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%s is %s (%s)\n", who.Login, who.ID, role)
			return nil
		},
	}
	f.add(c)
	c.Flags().StringVar(&a.Login, "login", "", "login name: a-z, 0-9, dot, dash, underscore")
	c.Flags().StringVar(&a.Name, "name", "", "name as the person writes it")
	c.Flags().StringVar(&a.Phone, "phone", "", "mobile number, 11 digits")
	c.Flags().StringVar(&role, "role", string(customer.Wearer), "wearer, operator or auditor")
	return c
}

// register opens a record, and a wallet for a wearer.
func register(ctx context.Context, h *app.House, a customer.Application) (customer.Customer, error) {
	c, err := h.Desk.Register(ctx, a)
	if err != nil || !c.Has(customer.Wearer) {
		return c, err
	}
	return c, h.Store.Write(ctx, func(tx *db.Tx) error { return wallet.Open(tx, c.ID) })
}
