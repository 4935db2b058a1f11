// Package process runs a storage driver in a process of its own.
//
// On the agent's side [New] makes a driverhost.Opener that starts the process. On
// the driver's side [Serve] is all that the main function of a driver calls:
//
//	func main() {
//		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
//		defer stop()
//		if err := process.Serve(ctx, open); err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		}
//	}
//
// The contract between the two is driverpb/driver.proto; drivers in other languages
// keep that. The DESIGN.md of driverhost says how a process is ended that must not
// work any longer.
//
// The package needs Linux.
package process
