// Command koala is the whole house in one binary: the platform, a city that
// uses it, and small windows on the packages it is made of. Each subcommand
// is one file of this package.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"koala/internal/fail"
)

// The exit codes of every subcommand.
const (
	exitFine    = 0
	exitRefused = 1 // refused, or found wrong
	exitMisused = 2 // flags or arguments that mean nothing
)

// errFoundWrong ends a command whose output already says what is wrong.
var errFoundWrong = errors.New("found wrong")

// errUsage marks errors of the command line itself.
type errUsage struct{ error }

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, in io.Reader, out, errs io.Writer) int {
	root := newRoot()
	root.SetArgs(args)
	root.SetIn(in)
	root.SetOut(out)
	root.SetErr(errs)
	err := root.ExecuteContext(ctx)
	var usage errUsage
	switch {
	case err == nil:
		return exitFine
	case errors.Is(err, errFoundWrong):
		return exitRefused
	case errors.As(err, &usage):
		fmt.Fprintf(errs, "koala: %v\nTry --help.\n", err)
		return exitMisused
	}
	fmt.Fprintf(errs, "koala: %v\n", explainError(err))
	return exitRefused
}

// explainError puts the declared failure's advice behind the chain of what was
// being done, unless the chain already ends with it.
func explainError(err error) string {
	if f := fail.Of(err); f == fail.ErrUnknown {
		return err.Error()
	}
	return err.Error() + " [" + fail.Of(err).Code + "]"
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use:           "koala",
		Short:         "A band that pays, and the house behind it",
		Long:          "koala runs a card scheme on one machine: cards written into a band over the air, gates and\nbuses, top-up, wallets, exact books and settlement, and a simulated city that uses them.",
		SilenceUsage:  true,
		SilenceErrors: true,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 0 {
				return errUsage{fmt.Errorf("there is no command %q", args[0])}
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return errUsage{err} })
	root.AddCommand(cardCommand(), demoCommand(), serveCommand(), personCommand(), cityCommand(), traceCommand(), fareCommand(), verifyCommand(),
		benchCommand(), bandCommand(), posCommand(), terminalCommand(), keyCommand(), billCommand(), iso8583Command(), backupCommand(), restoreCommand(), rebuildCommand(), migrateCommand())
	return root
}

// noArgs and someArgs turn cobra's argument errors into misuse (exit code 2).
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return errUsage{err}
	}
	return nil
}

func exactArgs(n int) cobra.PositionalArgs {
	return func(cmd *cobra.Command, args []string) error {
		if err := cobra.ExactArgs(n)(cmd, args); err != nil {
			return errUsage{err}
		}
		return nil
	}
}
